with source as (

    select * from {{ source('raw', 'ml_genome_scores') }}

),

final as (

    select
        edition,
        "movieId" as movie_id,
        "tagId" as tag_id,
        relevance
    from source

)

select * from final
