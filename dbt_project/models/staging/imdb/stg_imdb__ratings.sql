with source as (

    select * from {{ source('raw', 'imdb_title_ratings') }}

),

final as (

    select
        tconst,
        "averageRating" as average_rating,
        "numVotes" as num_votes
    from source

)

select * from final
