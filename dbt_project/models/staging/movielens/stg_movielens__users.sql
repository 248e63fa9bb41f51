with source as (

    select * from {{ source('raw', 'ml_users') }}

),

final as (

    select
        edition,
        "userId" as user_id,
        nullif(trim(gender), '') as gender,
        age,
        nullif(trim(occupation), '') as occupation,
        nullif(trim("zipCode"), '') as zip_code
    from source

)

select * from final
